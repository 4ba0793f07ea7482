"""Share a model or a supernet on the Hugging Face Hub: ``python -m subnet_export.publish`` (options: ``--help``)."""

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.arguments import CommandLine

    parser = CommandLine(
        "python -m subnet_export.publish",
        description="Upload an exported model, or a trained supernet, to a repository of the Hugging Face Hub, with a "
        "card that hubs read, and compare what was uploaded. The folder of the data set, logs and checkpoints stay "
        "here. Log in first (hf auth login) or set HF_TOKEN; HF_ENDPOINT names another server. Needs the extra hub; "
        "for a supernet also safetensors.",
    )
    parser.add_argument(
        "source", metavar="FOLDER", help="an exported model, or a training run's folder or its supernet.pt"
    )
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository, which is made if it does not exist")
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="licence of the weights as hubs name it, such as mit, apache-2.0, cc-by-4.0 or other (default: that of "
        "the export, else unknown)",
    )
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help="a photograph of yours, on which the people that the model finds are drawn for the card (default: the "
        "drawn people of the export)",
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--message", metavar="TEXT", help="message of the commit")
    parser.add_argument("--dry-run", action="store_true", help="check and list the files, and upload nothing")
    parser.describe(
        (
            "runs/export/latest owner/name --license cc-by-4.0",
            "runs/train/latest owner/supernet private=true",
        ),
        {
            "what is shared": ("source", "repository"),
            "card": ("--license", "--picture"),
            "upload": ("--private", "--message", "--dry-run"),
        },
    )
    options = parser.parse_args()

    from subnet_export.publish.run import run  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: run(options))


if __name__ == "__main__":
    main()
