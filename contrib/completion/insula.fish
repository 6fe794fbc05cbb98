# fish completion for insula(1)

function __insula_objects
	# Naming the socket keeps a TAB from starting the daemon.
	set -l host unix:///run/insula/insula.sock
	set -q DOCKER_HOST; and set host $DOCKER_HOST
	set -q INSULA_HOST; and set host $INSULA_HOST
	switch $argv[1]
		case image
			env INSULA_HOST=$host insula images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -v '<none>'
		case context
			insula context ls -q 2>/dev/null
		case network
			env INSULA_HOST=$host insula network ls --format '{{.Name}}' 2>/dev/null
		case volume
			env INSULA_HOST=$host insula volume ls -q 2>/dev/null
		case running
			env INSULA_HOST=$host insula ps --format '{{.Names}}' 2>/dev/null
		case container
			env INSULA_HOST=$host insula ps -a --format '{{.Names}}' 2>/dev/null
	end
end

function __insula_complete
	set -l words (commandline -opc)
	set -l names (insula __complete $words[2..-1] (commandline -ct) 2>/dev/null)
	if set -q names[1]
		printf '%s\n' $names
		return
	end
	set -l verb $words[2]
	if contains -- "$verb" container context image network system vm volume
		set verb "$verb $words[3]"
	end
	switch "$verb"
		case load import
			__fish_complete_path (commandline -ct)
		case run create rmi history tag push save 'image*' 'container run' 'container create'
			__insula_objects image
		case exec attach stop kill top 'container exec' 'container attach' 'container stop' 'container kill' 'container top'
			__insula_objects running
		case inspect
			__insula_objects container
			__insula_objects image
		case 'network*'
			__insula_objects network
		case 'context*'
			__insula_objects context
		case 'volume*'
			__insula_objects volume
		case '*'
			__insula_objects container
	end
end

complete -c insula -f -a '(__insula_complete)'
complete -c insula -l isolation -x -a 'process hyperv default'
complete -c insula -l pull -x -a 'always missing never'
complete -c insula -l log-driver -x -a 'json-file local journald none'
