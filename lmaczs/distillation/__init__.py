"""How the embedded CLAP, pretrained/clap_small, was made."""
