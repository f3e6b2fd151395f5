"""Stage `interfacegan`: the smile direction in W by InterFaceGAN, for the benchmark."""
