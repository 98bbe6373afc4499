"""BERT written by hand, with a trainer for sentence classification.

The map, and an order to read it in:

    model/        BERT: positional_encoding, embedding, attention, feed_forward, encoder, bert
    data/         text to batches: sources, tokenizer, dataset, batching, masking
    training/     setup, loop (the training step), optimizer, session (epochs, logging), state (exact resume)
    evaluation/   predictor (the Python API), metrics, split, prediction_lines, plots
    interop/      Hugging Face folders, both ways: huggingface, key_tables, configs
    utils/        config (every setting), command_line, errors, folder, device

    train.py      python -m src.train
    inference.py  python -m src.inference

Imports point downwards: entry points, then training, then evaluation and interop, then data and model, then utils.
"""
