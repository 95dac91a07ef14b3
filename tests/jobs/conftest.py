import sys
from pathlib import Path

# pytest's importlib mode does not put the folder of tests on the path.
sys.path.insert(0, str(Path(__file__).parents[1]))
