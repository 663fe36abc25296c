"""The source's side: readers of GGUF files and of Hugging Face folders, packed ones too."""
