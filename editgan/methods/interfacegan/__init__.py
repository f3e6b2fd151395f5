"""Stage `interfacegan`: the direction of a smile in W by InterFaceGAN, for the benchmark."""
