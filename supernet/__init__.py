"""The core: arch, space, network, weight sharing; entry points train, evaluate, doctor."""
