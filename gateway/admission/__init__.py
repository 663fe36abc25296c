"""Who is let in: keys, quotas, rate limits, drain, web origins."""
