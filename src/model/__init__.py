"""BERT, by hand: the model of Devlin et al. 2019 on the encoder of Vaswani et al. 2017.

Read in this order: `positional_encoding`, `embedding`, `attention`, `feed_forward`, `encoder`, `bert`.

One legend for every shape comment:

    B   sentences in the batch             H    attention heads
    T   tokens in a sentence               D_h  width of one head, D = H * D_h
    T_q tokens with a query: T, or 1 where only [CLS] is computed
    D   hidden size                        D_ff width of the feed-forward layer
    V   vocabulary size                    C    classes
    N   masked tokens in the batch         L    encoder layers

`attention_mask` (B, T), True at real tokens, becomes `mask` (B, 1, 1, T): True = may be attended to. Both are None when
nothing is padded.
"""
