"""BERT written by hand: pre-training, fine-tuning, and classification of sentences.

The map, and an order to read it in:

    model/        BERT: positional_encoding, embedding, attention, feed_forward, dropout, encoder, bert
    data/         text to batches: sources (hub, readers), tokenizer, encoding, dataset, batching; word_dropout,
                  holdout; for pre-training documents, packing, masking
    training/     setup, pretrain_setup, objectives (the losses), loop (the training step), optimizer, gradients (of
                  many processes), session (epochs, logging), state (exact resume), rehearsal (--dry-run),
                  perseverance (failing disks); subjects, run, start, run_folder, metrics_file, tracking;
                  informed_start (of pre-training)
    evaluation/   predictor (the Python API), metrics, split, prediction_lines, examples; masked_lm, fill_mask;
                  plots, page; for a report run_report, answers, curves, calibration, groups; charts, curve_charts,
                  answer_charts, report_page; why an answer: attribution, words, coloured, attention_maps
    interop/      Hugging Face folders, both ways: huggingface, pretrained, weights, key_tables, configs,
                  tokenizer_files, tokenizer_limits; model_card, card_header; onnx, upload
    web/          the page to try a model on: page, table, limits, guard
    utils/        config (every setting of a training), programs (options of the others), options, command_line,
                  completion; errors, output, folder, foreign (files of others), runs, names, device, distributed and
                  shared_memory (many processes)

    train.py      python -m src.train
    pretrain.py   python -m src.pretrain
    inference.py  python -m src.inference
    report.py     python -m src.report
    export.py     python -m src.export
    explain.py    python -m src.explain
    demo.py       python -m src.demo

Imports point downwards: entry points, training and web, evaluation and interop, data and model, utils.
"""
