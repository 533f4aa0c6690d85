"""`python3 -m webui.reference`: write the generated pages."""

from webui.paths import PROJECT_ROOT
from webui.reference import pages, write

if __name__ == "__main__":
    changed = write(PROJECT_ROOT, pages())
    print("\n".join(f"written: {name}" for name in changed) or "All pages are true already.")
