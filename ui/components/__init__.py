"""Elements in HTML, CSS and JavaScript, a folder each."""
