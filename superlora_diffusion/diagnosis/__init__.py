"""What ``superlora-diff doctor`` looks at: packages, processors, caches. Imports torch only to ask for devices."""
