"""A live demo of the fraud example: a page that shows which features expire and which stay."""
