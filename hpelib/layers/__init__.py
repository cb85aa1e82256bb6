"""What several networks share: layers, a normalising flow, and the checks of options and image sizes."""
