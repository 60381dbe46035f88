"""The demo: the fraud example live, with a page that shows what expires and what stays."""
