#compdef insula
# zsh completion for insula(1)

_insula_objects() {
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
	local -a names
	local prev=${words[CURRENT - 1]} verb=${words[2]}

	case $prev in
	--isolation) compadd process hyperv default; return ;;
	--network | --net) compadd -- ${(f)"$(_insula_objects network)"}; return ;;
	--context) compadd -- ${(f)"$(_insula_objects context)"}; return ;;
	--pull) compadd always missing never; return ;;
	--log-driver) compadd json-file local journald none; return ;;
	--env-file | --label-file | --cidfile | -i | --input | -v | --volume) _files; return ;;
	esac
	names=(${(f)"$(insula __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	if (( ! $#names )); then
		case $verb in
		container | context | image | network | system | vm | volume) verb="$verb ${words[3]}" ;;
		esac
		case $verb in
		load | import) _files; return ;;
		run | create | rmi | history | tag | push | save | image* | 'container run' | 'container create')
			names=(${(f)"$(_insula_objects image)"}) ;;
		exec | attach | stop | kill | top | container\ (exec|attach|stop|kill|top))
			names=(${(f)"$(_insula_objects running)"}) ;;
		inspect) names=(${(f)"$(_insula_objects container)"} ${(f)"$(_insula_objects image)"}) ;;
		network*) names=(${(f)"$(_insula_objects network)"}) ;;
		volume*) names=(${(f)"$(_insula_objects volume)"}) ;;
		context*) names=(${(f)"$(_insula_objects context)"}) ;;
		*) names=(${(f)"$(_insula_objects container)"}) ;;
		esac
	fi
	compadd -- $names
}

_insula "$@"
