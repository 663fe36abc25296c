"""The checkpoint's side: layouts of each precision, the recipe, its small files."""
