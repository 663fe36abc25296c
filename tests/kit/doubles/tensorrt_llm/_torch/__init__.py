"""Private in the package too."""
