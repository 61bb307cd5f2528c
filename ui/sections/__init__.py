"""What stands on a page, under the page's own name."""
