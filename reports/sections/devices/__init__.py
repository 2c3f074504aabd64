"""What the devices did: kernels against their roof, communication against its links, and ranks on their hosts."""
