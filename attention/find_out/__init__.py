"""What each page has its reader guess, what there is to learn from it, and three worked problems; all computed."""
