"""The experiment of Bal & Sengupta (2023): both of its networks, by EP and by backpropagation, on real text."""
