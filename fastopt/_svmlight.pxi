# The svmlight parser.
