"""What people read of figures: tables, drawings and pages."""
