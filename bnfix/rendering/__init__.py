"""What a report says, as plain data, and how that becomes text, HTML, a data frame or a picture."""
