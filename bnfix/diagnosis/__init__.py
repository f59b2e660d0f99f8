"""What is wrong with each BatchNormalization, from the model and from data. Nothing is run here."""
