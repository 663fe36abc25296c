"""What `lockgate serve` adds to an application: connections, and what they can learn later."""
