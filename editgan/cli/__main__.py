from editgan.cli.pictures import main

main()
