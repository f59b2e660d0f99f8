"""One rewrite a file: reads a graph of plain data, yields an edit or a reason to decline."""
