"""Weight-shared LitePose supernet: architectures, network, weight sharing, training, evaluation."""
