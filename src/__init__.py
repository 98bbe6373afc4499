"""BERT written by hand: pre-training, fine-tuning, and classification of sentences.

The map, and an order to read it in:

    model/        BERT: positional_encoding, embedding, attention, feed_forward, encoder, bert
    data/         text to batches: sources (hub, readers), tokenizer, encoding, dataset, batching; word_dropout,
                  holdout; for pre-training documents, packing, masking
    training/     setup, pretrain_setup, objectives (the losses), loop (the training step), optimizer, session (epochs,
                  logging), state (exact resume); subjects, run, start, run_folder, tracking
    evaluation/   predictor (the Python API), metrics, split, prediction_lines, examples; masked_lm, fill_mask;
                  plots, page
    interop/      Hugging Face folders, both ways: huggingface, pretrained, weights, key_tables, configs,
                  tokenizer_files, tokenizer_limits; model_card
    utils/        config (every setting), command_line, errors, folder, foreign (files of others), runs, device,
                  distributed (many processes)

    train.py      python -m src.train
    pretrain.py   python -m src.pretrain
    inference.py  python -m src.inference

Imports point downwards: entry points, then training, then evaluation and interop, then data and model, then utils.
"""
