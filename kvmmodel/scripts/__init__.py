"""Random guest programs that ran on real kernels: read, run in the model, compared. See translate.py for the format."""
