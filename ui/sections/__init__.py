"""The parts of each page, in a module with the page's name."""
