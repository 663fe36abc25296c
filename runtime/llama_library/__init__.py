"""llama.cpp's C interface behind one typed class, for two families: llama.cpp, ik_llama.cpp."""
