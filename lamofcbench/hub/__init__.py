"""The Hugging Face Hub: publishing archives, and fetching parts of them."""
