"""Writes a text into shards as build-nanogpt's fineweb.py does: tiktoken in a pool of processes, numpy for the shards.

    python tokens.py TEXT OUT VOCABULARY [--processes N]

TEXT has documents that lines saying <|endoftext|> separate. VOCABULARY is GPT-2's in tiktoken's format, so that
nothing is downloaded. Prints the seconds from the first byte read to the last shard written, and the tokens.
"""

import argparse
import base64
import multiprocessing as mp
import os
import time

import numpy as np
import tiktoken

SHARD_SIZE = int(1e8)
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
END_OF_TEXT = "<|endoftext|>"

parser = argparse.ArgumentParser()
parser.add_argument("text")
parser.add_argument("out")
parser.add_argument("vocabulary")
parser.add_argument("--processes", type=int, default=max(1, os.cpu_count() // 2))  # fineweb.py's number
args = parser.parse_args()


def encoding():
    with open(args.vocabulary) as file:
        ranks = dict(line.split() for line in file)
    ranks = {base64.b64decode(token): int(rank) for token, rank in ranks.items()}
    ranks.pop(END_OF_TEXT.encode(), None)
    special = {END_OF_TEXT: len(ranks)}
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


enc = encoding()
eot = enc._special_tokens[END_OF_TEXT]


def tokenize(doc):
    tokens = [eot]
    tokens.extend(enc.encode_ordinary(doc))
    tokens_np = np.array(tokens)
    assert (0 <= tokens_np).all() and (tokens_np < 2**16).all(), "token dictionary too large for uint16"
    return tokens_np.astype(np.uint16)


def documents():
    with open(args.text, encoding="utf-8") as file:
        lines = []
        for line in file:
            if line.strip() == END_OF_TEXT:
                yield "".join(lines).rstrip()
                lines = []
            else:
                lines.append(line)
        yield "".join(lines).rstrip()


def write(split, shard_index, tokens):
    np.save(os.path.join(args.out, f"bench_{split}_{shard_index:06d}"), tokens)


def main():
    os.makedirs(args.out, exist_ok=True)
    start = time.perf_counter()
    with mp.Pool(args.processes) as pool:
        shard_index, token_count, total = 0, 0, 0
        shard = np.empty((SHARD_SIZE,), dtype=np.uint16)
        for tokens in pool.imap(tokenize, documents(), chunksize=16):
            total += len(tokens)
            if token_count + len(tokens) < SHARD_SIZE:
                shard[token_count : token_count + len(tokens)] = tokens
                token_count += len(tokens)
            else:
                remainder = SHARD_SIZE - token_count
                shard[token_count:] = tokens[:remainder]
                write("train", shard_index, shard)
                shard_index += 1
                token_count = len(tokens) - remainder
                shard[:token_count] = tokens[remainder:]
        if token_count != 0:
            write("train", shard_index, shard[:token_count])
    print(time.perf_counter() - start, total)


if __name__ == "__main__":
    main()
