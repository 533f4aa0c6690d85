"""`python3 -m webui.reference`: write the generated pages."""

from webui.reference import write

if __name__ == "__main__":
    changed = write()
    print("\n".join(f"written: {name}" for name in changed) or "All pages are true already.")
