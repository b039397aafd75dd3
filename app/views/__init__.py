"""The pages, one module each, with one function that draws it."""
