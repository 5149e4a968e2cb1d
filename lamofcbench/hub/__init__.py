"""The Hugging Face Hub: publishing stores, and fetching parts of them."""
