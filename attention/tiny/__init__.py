"""Small models that this program trains: the study of uptraining, the lab, and what the models' heads do."""
