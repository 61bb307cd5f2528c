"""Small models trained by this program: the study, the lab, and what their heads do."""
