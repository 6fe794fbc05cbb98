# bash completion for insula(1)

_insula_names() {
	# Naming the socket keeps a TAB from starting the daemon.
	local host=${INSULA_HOST:-${DOCKER_HOST:-unix:///run/insula/insula.sock}}
	case $1 in
	image) INSULA_HOST=$host insula images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -v '<none>' ;;
	context) insula context ls -q 2>/dev/null ;;
	network) INSULA_HOST=$host insula network ls --format '{{.Name}}' 2>/dev/null ;;
	volume) INSULA_HOST=$host insula volume ls -q 2>/dev/null ;;
	running) INSULA_HOST=$host insula ps --format '{{.Names}}' 2>/dev/null ;;
	container) INSULA_HOST=$host insula ps -a --format '{{.Names}}' 2>/dev/null ;;
	esac
}

_insula() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words path
	COMPREPLY=()
	case $prev in
	--isolation) COMPREPLY=($(compgen -W "process hyperv default" -- "$cur")); return ;;
	--network | --net) COMPREPLY=($(compgen -W "$(_insula_names network)" -- "$cur")); return ;;
	--log-driver) COMPREPLY=($(compgen -W "json-file local journald none" -- "$cur")); return ;;
	--context) COMPREPLY=($(compgen -W "$(_insula_names context)" -- "$cur")); return ;;
	--pull) COMPREPLY=($(compgen -W "always missing never" -- "$cur")); return ;;
	--env-file | --label-file | --cidfile | -i | --input | -v | --volume) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	esac
	words=$(insula __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	if [ -z "$words" ]; then
		path=${COMP_WORDS[1]}
		case $path in container | context | image | network | system | vm | volume) path="$path ${COMP_WORDS[2]}" ;; esac
		case $path in
		run | create | rmi | history | tag | push | save | *image* | "container run" | "container create") words=$(_insula_names image) ;;
		exec | attach | stop | kill | top | container*exec | container*attach | container*stop | container*kill | container*top)
			words=$(_insula_names running) ;;
		load | import) COMPREPLY=($(compgen -f -- "$cur")); return ;;
		inspect) words="$(_insula_names container) $(_insula_names image)" ;;
		network*) words=$(_insula_names network) ;;
		volume*) words=$(_insula_names volume) ;;
		context*) words=$(_insula_names context) ;;
		*) words=$(_insula_names container) ;;
		esac
	fi
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
	# "repository:tag" has a word break in it.
	declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
}

complete -F _insula insula
