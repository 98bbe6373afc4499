"""BERT, by hand: the model of Devlin et al. 2019 on the encoder of Vaswani et al. 2017.

Read in this order: `positional_encoding`, `embedding`, `attention`, `feed_forward`, `encoder`, `bert`.

One legend for every shape comment:

    B   sentences in the batch             H    attention heads
    T   tokens in a sentence               D_h  width of one head, D = H * D_h
    D   hidden size                        F_   width of the feed-forward layer
    V   vocabulary size                    C    classes
    N   masked tokens in the batch         L    encoder layers

One mask: bool, True = may be attended, shape (B, 1, 1, T), or None when nothing is padded.
"""
