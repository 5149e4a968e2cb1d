"""Features in other people's formats: the reference's files, HDF5, safetensors, npy, raw video."""
