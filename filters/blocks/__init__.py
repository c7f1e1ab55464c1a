"""Blocks: named predicates that several filters share, and that expressions know by name."""

from filters.blocks.block import BLOCKS, Block, block, blocks_of

__all__ = ["BLOCKS", "Block", "block", "blocks_of"]
