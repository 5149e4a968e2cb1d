"""Figures of tensors and of samples: numpy alone, no models and no stores."""
