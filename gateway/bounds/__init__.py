"""What one client's input may cost the process: time on the event loop, threads, memory."""
