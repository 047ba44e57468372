"""A pool over the ranks of a gang: rank 0 drives, the others dial in and lend their workers."""
