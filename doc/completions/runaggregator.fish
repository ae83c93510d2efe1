complete -c runaggregator -l app-config -d 'Which processes are one application' -r -F
complete -c runaggregator -l monitor-config -d 'Which monitors and pipes there are' -r -F
complete -c runaggregator -l notification-config -d 'When somebody is told of an application\'s traffic, and how' -r -F
complete -c runaggregator -l group-by -d 'Put processes that --app-config puts nowhere together by this; those that have no such thing as --auto-group says' -r -f -a "user\t'The user whose rights the process has'
unit\t'The systemd unit that it runs in'
container\t'The container that it runs in'
exe\t'The path of its program'"
complete -c runaggregator -l source -d 'Where bytes are counted' -r -f -a "ebpf\t'IP bytes of every socket, counted in the kernel from now on'
conntrack\t'IP bytes of every tracked flow, from connection tracking'
sockets\t'Payload bytes of TCP, from the sockets themselves'
auto\t'eBPF where it is allowed, else conntrack, else sockets'"
complete -c runaggregator -l netns -d 'Which network namespaces are watched' -r -f -a "all\t'Those of all processes, containers among them'
own\t'Only the one in which the program runs'"
complete -c runaggregator -l interval -d 'Seconds between two refreshes; fractions are allowed' -r
complete -c runaggregator -l count -d 'End after N refreshes, as Ctrl-C does' -r
complete -c runaggregator -l format -d 'What a refresh is written as' -r -f -a "text\t'Lines for people, as they always were'
json\t'JSON Lines: a line with everything there is for each refresh'
csv\t'CSV: a record for each row of each refresh, and a header'"
complete -c runaggregator -l units -d 'In what units text shows bytes, instead of plain numbers' -r -f -a "bin-bytes\t'B, KiB, MiB: steps of 1024'
bin-bits\t'bit, Kibit, Mibit: steps of 1024'
si-bytes\t'B, kB, MB: steps of 1000'
si-bits\t'bit, kbit, Mbit: steps of 1000'"
complete -c runaggregator -l serve -d 'Serve a web page of the last minute on this port of 127.0.0.1, or on this address and port' -r
complete -c runaggregator -l drain-timeout -d 'After Ctrl-C, wait at most so long for open connections and running commands' -r
complete -c runaggregator -l auto-group -d 'Put processes that --app-config puts nowhere together by the names of their programs'
complete -c runaggregator -l all -d 'Show also what used less than 1 KiB per second'
complete -c runaggregator -l unattributed -d 'Show also the bytes for which no process can be named, a line for each reason'
complete -c runaggregator -l check-config -d 'Check the files, print what was understood, and end'
complete -c runaggregator -s h -l help -d 'Print help (see more with \'--help\')'
complete -c runaggregator -s V -l version -d 'Print version'
