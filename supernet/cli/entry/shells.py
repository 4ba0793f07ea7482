"""The completion scripts of the shells. Each asks ``litepose completion words`` and offers files where it has none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shell:
    """A shell.

    Attributes:
        name: Its name.
        how: What a user does once to have completion.
        script: What the shell runs.
    """

    name: str
    how: str
    script: str


# Bash begins a new word after "=", so that only what follows it is replaced; option names get no space behind them.
_BASH = r"""_litepose() {
  local line="${COMP_LINE:0:COMP_POINT}" words found=() word
  read -ra words <<<"$line"
  [[ "$line" == *" " ]] && words+=("")
  local current="${words[${#words[@]}-1]}"
  while IFS= read -r word; do
    [[ "$word" == *= ]] || word+=" "
    [[ "$current" == *=* && "$COMP_WORDBREAKS" == *=* ]] && word="${word#"${current%%=*}="}"
    found+=("$word")
  done < <(litepose completion words "${words[@]:1}" 2>/dev/null)
  COMPREPLY=("${found[@]}")
}
complete -o nospace -o default -F _litepose litepose
"""

_ZSH = r"""#compdef litepose
_litepose() {
  local -a found names values
  found=(${(f)"$(litepose completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  names=(${(M)found:#*=})
  values=(${found:#*=})
  (( ${#names} )) && compadd -Q -S '' -- $names
  (( ${#values} )) && compadd -Q -- $values
  (( ${#found} )) || { compset -P '*='; _files }
}
compdef _litepose litepose
"""

_FISH = r"""function __litepose_words
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    litepose completion words $before[2..-1] "$current" 2>/dev/null
end
complete -c litepose -a '(__litepose_words)'
"""

SHELLS = {
    shell.name: shell
    for shell in (
        Shell("bash", 'add eval "$(litepose completion bash)" to ~/.bashrc', _BASH),
        Shell("zsh", "add source <(litepose completion zsh) to ~/.zshrc, below compinit", _ZSH),
        Shell("fish", "litepose completion fish > ~/.config/fish/completions/litepose.fish", _FISH),
    )
}
