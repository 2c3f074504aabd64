"""The flow as Python functions: `import traceanalyzer as ta` offers their names and imports them on first use."""
