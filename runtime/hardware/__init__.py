"""GPUs: readings through NVML, data sheets, and the guard against full memory."""
