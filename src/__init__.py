"""BERT by hand. Imports point downwards: entry points; training, web; evaluation, interop; data, model; utils."""
