"""Admission control: keys, quotas, rate limits, drain, web origins."""
